"""Students of several families on one task: accuracy against latency, and the best of them within the recipe's budget."""
