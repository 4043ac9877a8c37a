"""The same as ``seg-kd predict``."""
from seg_kd import cli

if __name__ == '__main__':
    cli.tool('predict')
