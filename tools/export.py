"""The same as ``seg-kd export``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('export')
