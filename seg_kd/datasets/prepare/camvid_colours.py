"""The 32 colours of CamVid's label images, grouped to 11 classes by SegNet."""
import numpy as np

from seg_kd.errors import UserError

# Class number: {name in CamVid: RGB}. Void is 255.
COLOURS = {
    0:
    dict(Sky=(128, 128, 128)),
    1:
    dict(Archway=(192, 0, 128),
         Bridge=(0, 128, 64),
         Building=(128, 0, 0),
         Tunnel=(64, 0, 64),
         Wall=(64, 192, 0)),
    2:
    dict(Column_Pole=(192, 192, 128), TrafficCone=(0, 0, 64)),
    3:
    dict(LaneMkgsDriv=(128, 0, 192),
         LaneMkgsNonDriv=(192, 0, 64),
         Road=(128, 64, 128)),
    4:
    dict(ParkingBlock=(64, 192, 128),
         RoadShoulder=(128, 128, 192),
         Sidewalk=(0, 0, 192)),
    5:
    dict(Tree=(128, 128, 0), VegetationMisc=(192, 192, 0)),
    6:
    dict(Misc_Text=(128, 128, 64),
         SignSymbol=(192, 128, 128),
         TrafficLight=(0, 64, 64)),
    7:
    dict(Fence=(64, 64, 128)),
    8:
    dict(Car=(64, 0, 128),
         OtherMoving=(128, 64, 64),
         SUVPickupTruck=(64, 128, 192),
         Train=(192, 64, 128),
         Truck_Bus=(192, 128, 192)),
    9:
    dict(Animal=(64, 128, 64),
         CartLuggagePram=(64, 0, 192),
         Child=(192, 128, 64),
         Pedestrian=(64, 64, 0)),
    10:
    dict(Bicyclist=(0, 128, 192), MotorcycleScooter=(192, 0, 192)),
    255:
    dict(Void=(0, 0, 0)),
}
UNKNOWN = 254
MOST_UNKNOWN = 0.01  # some original label images have a few stray pixels


def colour_table() -> np.ndarray:
    """``(2**24, )`` class number of each colour 0xRRGGBB."""
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    for number, colours in COLOURS.items():
        for red, green, blue in colours.values():
            table[red << 16 | green << 8 | blue] = number
    return table


TABLE = colour_table()


def from_colours(array: np.ndarray, name: str) -> np.ndarray:
    """``(H, W, 3)`` RGB to ``(H, W)`` classes 0 to 10 and 255."""
    red, green, blue = np.moveaxis(array.astype(np.int32), -1, 0)
    label = TABLE[red << 16 | green << 8 | blue]
    unknown = label == UNKNOWN
    if unknown.mean() > MOST_UNKNOWN:
        colour = tuple(array[unknown][0].tolist())
        raise UserError(f'{name}: {unknown.mean():.0%} of the pixels have '
                        f"colours that are not CamVid's, such as {colour}")
    label[unknown] = 255
    return label
