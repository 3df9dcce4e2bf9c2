"""The check's pair of processes as one: what the tests drive its proofs with."""

import pickle

from gpt2.check import prove as proofs


class Alone:
    """A pair that is one process. What is proven comes back as from another one."""

    def prove(self, cases, progress):
        for case in cases:
            proofs.prove(case)
        return pickle.loads(pickle.dumps(cases))

    def two_ranks(self, cases):
        pass
