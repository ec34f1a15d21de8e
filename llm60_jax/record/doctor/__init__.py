"""The doctor turns the symptoms of a run into measured evidence, a likely cause and a fix.

It extends section 14 of the playbook and corrects it in one place: overfitting comes from reading too little text too
often, not from too much dropout, which works against it. A check reports only what it is sure of, because users
ignore a doctor that cries wolf. Every check is a pure function of a `History`.
"""

from llm60_jax.record.doctor.checks import examine as examine
from llm60_jax.record.doctor.findings import Finding as Finding
from llm60_jax.record.doctor.time import Share as Share
from llm60_jax.record.doctor.time import seconds_of as seconds_of
from llm60_jax.record.doctor.time import time_of as time_of
