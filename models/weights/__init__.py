"""Weight files: which there are, how they come here, whether they are right, and where a loader finds them.

The lock that is shipped (`lock`) says what to fetch; an operator chooses (`selection`), and what is missing is
transferred (`transfer`, `transfers`, or from a `mirror`), checked (`checks`) and installed (`install`). The record of
the folder (`installed`) says what is there, and is all that a worker goes by (`weight_set`).
"""
