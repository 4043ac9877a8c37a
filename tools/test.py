"""The same as ``seg-kd test``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('test')
