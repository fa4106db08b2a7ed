"""The review queue: what waits, who works on what, what people decide, and what they take back.

`queue` lists what waits and `claims` gives it out, one content to one person. `deciding` stores what a person says,
`undo` takes it back. `item` is all that a page shows of a content. `agreement` and `pace` count.
"""
