"""Libraries that read through asyncio's streams, and servers for them."""
