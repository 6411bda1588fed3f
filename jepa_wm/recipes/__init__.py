"""What the commands do, without flags: a dataclass in, files out."""

from jepa_wm.recipes.ablating import Ablating, Ablation, list_studies
from jepa_wm.recipes.agents import Imagining, train_agent
from jepa_wm.recipes.collecting import Collecting, collect
from jepa_wm.recipes.converting import Converting, convert
from jepa_wm.recipes.diagnosing import Diagnosing, diagnose
from jepa_wm.recipes.exporting import Exporting, export
from jepa_wm.recipes.online import Online, train_online
from jepa_wm.recipes.planning import Planning, plan
from jepa_wm.recipes.probing import Probing, probe
from jepa_wm.recipes.study import Published, Row, Size, Study
from jepa_wm.recipes.study_work import is_done
from jepa_wm.recipes.training import train
from jepa_wm.recipes.training_heads import train_head
from jepa_wm.recipes.training_pixels import train_from_pixels

__all__ = [
  'Ablating',
  'Ablation',
  'Collecting',
  'Converting',
  'Diagnosing',
  'Exporting',
  'Imagining',
  'Online',
  'Planning',
  'Probing',
  'Published',
  'Row',
  'Size',
  'Study',
  'collect',
  'convert',
  'diagnose',
  'export',
  'is_done',
  'list_studies',
  'plan',
  'probe',
  'train',
  'train_agent',
  'train_from_pixels',
  'train_head',
  'train_online',
]
