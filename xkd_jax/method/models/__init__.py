"""The networks. Modules hold parameters; everything that can be a pure function is one."""
