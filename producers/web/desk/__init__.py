"""The review desk: what waits, who works on what, what people decide, and what they take back.

`queue` lists the waiting contents, and `claims` gives each to one person. `deciding` stores a person's decision, and
`undo` takes it back. `item` collects everything that a page shows of a content, and `looking` who has it open.
`agreement` and `pace` count.
"""
