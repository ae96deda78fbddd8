"""How people look at a stream: what `robuststream inspect` prints, draws and checks. No decode needs it."""
