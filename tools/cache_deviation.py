"""The same as ``seg-kd cache-deviation``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('cache-deviation')
