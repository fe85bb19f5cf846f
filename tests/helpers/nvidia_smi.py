"""An `nvidia-smi` for machines without a GPU: it prints what the real one prints on others."""

from pathlib import Path

GPU_IDS = tuple(f"GPU-{n}f2c9e6b-1d2e-7a3b-9c4d-0e1f2a3b4c5d" for n in range(4))
SLICE_IDS = ("MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d")

#: A Hopper card, a sliced Ampere card, a T4 that somebody else uses, a card that shares its memory with the CPU.
TABLE = f"""\
0, {GPU_IDS[0]}, NVIDIA H200, 143771, 143158, 9.0, 00000000:18:00.0, Disabled
1, {GPU_IDS[1]}, NVIDIA A100-SXM4-40GB, 40960, [Insufficient Permissions], 8.0, 00000000:3B:00.0, Enabled
2, {GPU_IDS[2]}, Tesla T4, 15360, 2048, 7.5, 00000000:86:00.0, [N/A]
3, {GPU_IDS[3]}, NVIDIA GB10, [N/A], [N/A], 12.1, 0000000F:01:00.0, [N/A]
"""
TREE = f"""\
GPU 0: NVIDIA H200 (UUID: {GPU_IDS[0]})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {GPU_IDS[1]})
  MIG 3g.20gb     Device  0: (UUID: {SLICE_IDS[0]})
  MIG 1g.5gb+me   Device  1: (UUID: {SLICE_IDS[1]})
GPU 2: Tesla T4 (UUID: {GPU_IDS[2]})
GPU 3: NVIDIA GB10 (UUID: {GPU_IDS[3]})
"""


def install(folder: Path, table: str = TABLE, tree: str = TREE, *, status: int = 0) -> Path:
    """Write the program.

    Args:
        folder: Where; it is to be first in the PATH.
        table: What it says to a query.
        tree: What it says to `-L`.
        status: Its exit status.
    """
    (folder / "table").write_text(table)
    (folder / "tree").write_text(tree)
    program = folder / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -L ]; then cat "{folder}/tree"; else cat "{folder}/table"; fi\nexit {status}\n'
    )
    program.chmod(0o755)
    return folder
