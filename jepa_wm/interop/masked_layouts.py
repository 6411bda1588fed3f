"""Names of I-JEPA's and V-JEPA's tensors, in the two layouts they come in.

'facebook': the released `.pt` files, queries, keys and values in one matrix;
'transformers': those of the Hub, a matrix each.

Source: facebookresearch/vjepa2 (c2963a4), jepa and ijepa; transformers 5.23.0
(`VJEPA2Model`, `IJepaModel`).
"""
