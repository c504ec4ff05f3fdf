"""The campaign: hostile sessions through controller, planner and envelope, watched by a checker of its own.

`draws`, `reps`, `station`, `floor`, `troubles` and `sessions` make up what machines and patients say, `network` loses
and reorders it, `world` drives both stages with it, `campaign` does so many times. `order`, `ledger`, `hearing`,
`watch`, `scene`, `grounds`, `increases` and `violations` are the checker: written from docs/science.md, section 7.4,
and importing nothing that decides. `sabotage` breaks the envelope on purpose, to see that the checker sees.
"""
