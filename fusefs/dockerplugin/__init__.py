"""Docker's volume plugin: volumes that are pipelines and runs of a store.

`protocol` is HTTP and JSON and knows no volumes; `driver` is the volumes and knows no HTTP; `described` is what one
tells the other. The driver uses `options` and `state` (what a volume is, and the file that remembers it), `storemount`
(the one mount behind all volumes), `scopes` and `binds` (directories in it, and read-only views of them). `server` puts
all of it together.
"""
