"""Claims of other papers on which this package builds."""
