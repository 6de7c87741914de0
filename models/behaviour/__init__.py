"""Behavioural tests of a classifier, after CheckList (Ribeiro et al. 2020)."""
