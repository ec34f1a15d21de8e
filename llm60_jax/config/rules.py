"""Golden rules of the playbook (section 15), as messages quote them."""

# Section 15, rule 2. Text for fine-tuning, near-duplicates included, leaves the pretraining phases.
RULE_2 = "'Never mix fine-tuning data into pretraining' (playbook, rule 2)"

# Section 15, rule 5. A run that starts from a checkpoint keeps its architecture.
RULE_5 = "'Never change architecture mid-training' (playbook, rule 5)"

# Section 15, rule 6. Enhancements (section 16) need a finished baseline. Messages add the source.
RULE_6 = "Never add complexity before baseline trains"
