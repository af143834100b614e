"""Learning to augment (arXiv 2101.08106): a policy learns by REINFORCE which generated texts help the student.

The paper's code is not public. The state of the policy, the episodes and the normalisation of the rewards are our choice.
"""
