"""Learning to augment (arXiv 2101.08106): a policy learns which generated texts help the student, by REINFORCE.

The paper's code is not public: the policy's state, the episodes and the normalisation of the rewards are our choice.
"""
