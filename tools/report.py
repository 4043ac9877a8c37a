"""The same as ``seg-kd report``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('report')
