"""LeWorldModel, arXiv 2603.19312 version 3: what keeps latents apart."""

from experiments.studies import lewm
from jepa_wm.recipes.study import Published, Row

lewm.add(
  'lambda',
  'How much does the weight of SIGReg matter?',
  'figure and text',
  '0.09',
  {
    '0.09': Row(published=lewm.said('peak', hand='text')),
    **{
      str(weight): Row(
        train={'model.terms.sigreg.weight': weight}, published=lewm.said(says)
      )
      for weight, says in (
        (0.01, '> 80'),
        (0.02, '> 80'),
        (0.05, '> 80'),
        (0.2, '> 80'),
        (0.5, 'falls sharply'),
      )
    },
    '0': Row(
      train={'model.terms.sigreg.weight': 0.0},
      published=lewm.said('collapse', hand='text'),
    ),
  },
)

lewm.add(
  'projections',
  'How many directions must SIGReg look along?',
  'figure',
  '1024',
  {
    # The small config has 256 of them.
    str(number): Row(
      train={'model.terms.sigreg.num_projections': number},
      published=Published(
        says='flat, about 90 to 97',
        source='LeWM v3, ablation figures, one reading of them',
        hand='second',
      ),
    )
    for number in (1024, 64, 128, 512)
  },
)

lewm.add(
  'knots',
  'How finely must SIGReg integrate, and from where to where?',
  'figure and appendix',
  '17',
  {
    '17': Row(published=lewm.said('flat')),
    **lewm.sweep(
      'model.terms.sigreg.num_knots',
      {5: lewm.said('flat'), 8: lewm.said('flat'), 33: lewm.said('flat')},
    ),
    '[0.2, 4]': Row(
      train={
        'model.terms.sigreg.t_min': 0.2,
        'model.terms.sigreg.t_max': 4.0,
      },
      published=lewm.said(
        'the nodes of the text; the code has [0, 3]',
        hand='text',
        where='appendix',
      ),
    ),
  },
)

lewm.add(
  'target',
  'Do a stopped gradient or an averaged target help?',
  'text',
  'shared',
  {
    'shared': Row(
      published=lewm.said('neither is used', hand='text', where='text')
    ),
    'stop-gradient': Row(
      train={
        'model.target.name': 'ema',
        'model.target.momentum': 0.0,
        'model.target.momentum_end': 0.0,
      }
    ),
    'EMA': Row(train={'model.target.name': 'ema'}),
  },
)

lewm.add(
  'projector',
  'Must the projector normalise by batches?',
  'text',
  'batch',
  {
    'batch': Row(published=lewm.said('necessary', hand='text', where='text')),
    'none': Row(train={'model.projector.norm': 'none'}),
  },
)

lewm.add(
  'decoder',
  'Does it help to draw the pixels while learning?',
  'Table 7',
  'without',
  {
    'without': Row(published=lewm.table(7, 96.0, 2.83)),
    'with': Row(
      train={'model.terms.reconstruction.weight': 1.0},
      published=lewm.table(7, 86.0, 7.54),
    ),
    'frozen, to look at': Row(
      published=lewm.said(
        'what is there of agent and block is drawn', hand='figure'
      ),
      missing='pictures and no number: experiments.train --config=experiments/'
      'configs/heads.py:decoder and experiments.plan --decoder draw them',
    ),
  },
  differs="The weight of the paper's loss is not published, and its decoder "
  'attends; ours is convolutional, with weight 1.',
)
