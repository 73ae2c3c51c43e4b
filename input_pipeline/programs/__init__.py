"""How every program of both packages starts, stops and talks to people."""
