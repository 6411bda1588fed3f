"""What the commands do, without flags: a dataclass in, files out."""

from jepa_wm.recipes.collecting import Collecting, collect
from jepa_wm.recipes.converting import Converting, convert
from jepa_wm.recipes.planning import Planning, plan
from jepa_wm.recipes.probing import Probing, probe
from jepa_wm.recipes.training import train
from jepa_wm.recipes.training_heads import train_head

__all__ = [
  'Collecting',
  'Converting',
  'Planning',
  'Probing',
  'collect',
  'convert',
  'plan',
  'probe',
  'train',
  'train_head',
]
