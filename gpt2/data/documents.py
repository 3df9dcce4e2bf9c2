"""Where documents begin in a sequence of tokens.

The separator opens the document that follows it: as an input it sees itself alone
and predicts the first token, as a target it ends the document before. So every
token stays a target once, and none is predicted from another document.

Legend: B sequences, T inputs.
"""

import torch


def starts_of(tokens_BT: torch.Tensor, separator: int | None) -> torch.Tensor | None:
    """starts_BT, int32: the position of the first token of every token's document,
    which is the last separator at or before it, or 0 where the sequence begins inside
    one. None without a separator: documents see each other.
    """
    if separator is None:
        return None
    T = tokens_BT.shape[1]
    t_T = torch.arange(T, dtype=torch.int32, device=tokens_BT.device)
    opened_BT = torch.where(tokens_BT == separator, t_T, t_T.new_zeros(()))
    return opened_BT.contiguous().cummax(dim=1).values
