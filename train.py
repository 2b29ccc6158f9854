"""Runs a sweep: python train.py --config=configs/placement_digits.py"""

from bnjax.cli import main

if __name__ == '__main__':
    raise SystemExit(main())
