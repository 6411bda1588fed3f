"""Writes dino_wm_push_t and dino_wm_wall with PyTorch and PyAV.

  python tests/golden/readers/make_dino_wm.py [FOLDER]      # torch, av

as gaoyuezhou/dino_wm's datasets/pusht_dset.py and wall_dset.py expect them.
"""

import pathlib
import sys

import av
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
LENGTHS = (5, 3, 4)
# pickle.dumps([5, 3, 4]) and pickle.dumps([4]).
PICKLES = {
  'train': b'\x80\x04\x95\x0b' + bytes(7) + b']\x94(K\x05K\x03K\x04e.',
  'val': b'\x80\x04\x95\x06' + bytes(7) + b']\x94K\x04a.',
}


def write_video(path, levels):
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=10)
    stream.height = stream.width = 16
    stream.pix_fmt = 'yuv420p'
    stream.options = {'crf': '10'}
    for level in levels:
      pixels = np.full((16, 16, 3), level, np.uint8)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, 'rgb24')))
    container.mux(stream.encode())


def push_t(folder, split, lengths):
  """States count up, actions are (100 e, 100 t) pixels."""
  out = folder / split
  out.mkdir(parents=True, exist_ok=True)
  shape = (len(lengths), max(lengths))
  number = torch.arange(shape[0])[:, None].expand(shape).float()
  time = torch.arange(shape[1])[None].expand(shape).float()
  states = torch.stack([number, time, number + 10, time + 10, time / 10], -1)
  torch.save(states.double(), out / 'states.pth')
  torch.save(torch.stack([number, -time], -1), out / 'velocities.pth')
  torch.save(100 * torch.stack([number, time], -1), out / 'rel_actions.pth')
  torch.save(states[..., :2] + 1, out / 'abs_actions.pth')
  (out / 'seq_lengths.pkl').write_bytes(PICKLES[split])
  for episode, length in enumerate(lengths):
    levels = 30 + 50 * episode + 8 * np.arange(length)
    write_video(out / 'obses' / f'episode_{episode:03d}.mp4', levels)


def wall(folder):
  """Frames as float tensors [T, C, H, W] in 0..255; all of one length."""
  (folder / 'obses').mkdir(parents=True, exist_ok=True)
  generator = torch.Generator().manual_seed(0)
  torch.save(torch.randn(2, 4, 2, generator=generator), folder / 'states.pth')
  torch.save(torch.randn(2, 4, 2, generator=generator), folder / 'actions.pth')
  torch.save(torch.ones(2, 4, 2), folder / 'door_locations.pth')
  torch.save(torch.ones(2, 4), folder / 'wall_locations.pth')
  for episode in range(2):
    frames = torch.arange(4 * 3 * 8 * 8).reshape(4, 3, 8, 8) % 251
    torch.save(
      (frames + episode).float(),
      folder / 'obses' / f'episode_{episode:03d}.pth',
    )


if __name__ == '__main__':
  out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
  push_t(out / 'dino_wm_push_t', 'train', LENGTHS)
  push_t(out / 'dino_wm_push_t', 'val', (4,))
  wall(out / 'dino_wm_wall')
