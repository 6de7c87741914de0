"""Seeded schedules of a whole deployment in virtual time; ``docs/simulation.md`` says what is modelled."""
