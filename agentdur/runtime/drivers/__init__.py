"""How attempts are run: in this process, or (remote deployments) over the service protocol."""
