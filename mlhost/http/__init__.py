"""The HTTP face: read the request, call one verb of the host, write the answer."""
