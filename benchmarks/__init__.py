"""Where speed is measured, and the plain forms against which the fast ones are proved and timed."""
