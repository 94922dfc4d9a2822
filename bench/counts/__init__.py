"""Work that is counted, not timed: FLOP, operators, graphs, against formulas."""
