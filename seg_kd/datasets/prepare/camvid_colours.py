"""The 32 colours of CamVid's label images, grouped to 11 classes by SegNet."""
import numpy as np

from seg_kd.errors import UserError

# Class number: colours as 0xRRGGBB. Void is 255.
COLOURS = {
    # Sky
    0: (0x808080, ),
    # Archway, Bridge, Building, Tunnel, Wall
    1: (0xC00080, 0x008040, 0x800000, 0x400040, 0x40C000),
    # Column_Pole, TrafficCone
    2: (0xC0C080, 0x000040),
    # LaneMkgsDriv, LaneMkgsNonDriv, Road
    3: (0x8000C0, 0xC00040, 0x804080),
    # ParkingBlock, RoadShoulder, Sidewalk
    4: (0x40C080, 0x8080C0, 0x0000C0),
    # Tree, VegetationMisc
    5: (0x808000, 0xC0C000),
    # Misc_Text, SignSymbol, TrafficLight
    6: (0x808040, 0xC08080, 0x004040),
    # Fence
    7: (0x404080, ),
    # Car, OtherMoving, SUVPickupTruck, Train, Truck_Bus
    8: (0x400080, 0x804040, 0x4080C0, 0xC04080, 0xC080C0),
    # Animal, CartLuggagePram, Child, Pedestrian
    9: (0x408040, 0x4000C0, 0xC08040, 0x404000),
    # Bicyclist, MotorcycleScooter
    10: (0x0080C0, 0xC000C0),
    # Void
    255: (0x000000, ),
}
UNKNOWN = 254
MOST_UNKNOWN = 0.01  # some original label images have a few stray pixels
TABLE = np.full(1 << 24, UNKNOWN, np.uint8)  # class number of each colour
for number, colours in COLOURS.items():
    TABLE[[*colours]] = number


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
