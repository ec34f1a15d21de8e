"""The golden rules of the playbook (section 15) that messages quote."""

RULE_6 = "Never add complexity before baseline trains"  # playbook, section 15

RULE_5 = "'Never change architecture mid-training' (playbook, rule 5)"
RULE_2 = "'Never mix fine-tuning data into pretraining' (playbook, rule 2)"
