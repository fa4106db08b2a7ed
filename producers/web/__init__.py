"""The review desk, where people decide about images, and the API for other programs: `fakesweep web`.

`app` puts both together. `access` finds out who makes a request. `desk` holds what is reviewed and how, `pictures` what
people see of an image, `overview` the pages for leads, and `api` the endpoints for programs.
"""
