"""What reference classes' forwards are called with: the module that `ModelSpec.pictures` names.

Each has NAMES, the arguments that it takes beside input_ids and attention_mask, and
`take(spec, ids, mask, given)`, which gives the fields of the batch dict that they come to.
"""
