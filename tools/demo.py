"""The same as ``seg-kd demo``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('demo')
