"""Cityscapes train ids that the scenes use (train and motorcycle never)."""
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN,
 SKY, PERSON, RIDER, CAR, TRUCK, BUS) = range(16)
BICYCLE = 18
IGNORE = 255
