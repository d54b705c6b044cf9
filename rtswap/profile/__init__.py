"""What a model costs on a device: measured once, used for planning and for promises."""
