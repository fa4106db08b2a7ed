"""The API for other programs, version 1. `app` puts it together; docs/api.md is for its users.

`problems` are its errors, `guards` what every request passes, `caller` who asks, `paging` and `forms` how answers look,
`models` what they hold. Each other module has the endpoints of one thing.
"""
