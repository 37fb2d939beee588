"""What runs inside a worker: synchronous functions over one workspace, taking and returning plain data.

Everything here can be the `function` of `worker.call(function, *args)`: its first parameter is the workspace, the
others and the result are what msgpack carries. Nothing here knows of asyncio, the store or HTTP.
"""
