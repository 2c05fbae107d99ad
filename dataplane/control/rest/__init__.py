"""The cloud's API (VPC v3) over HTTP: a thin transport of the service, by resource, with FastAPI and uvicorn.

Names and meanings are those of the vendor's SDK. What it does not have is under ``/v3/{project_id}/dataplane``, or
beside the resource that it is about. The modules here are imported only where the API is served.
"""

#: So many connections are served at once at each place, and so many of one address.
CLIENTS_MAX, CLIENTS_OF_ONE_MAX = 64, 32
