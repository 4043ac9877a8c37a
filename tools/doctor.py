"""The same as ``seg-kd doctor``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('doctor')
