"""The review desk, where people decide about images, and the API for other programs: `fakesweep web`.

`app` puts it together. `access` says who comes in, `desk` what is reviewed and how, `pictures` what they see of an
image, `overview` what a lead needs, `api` what programs call.
"""
