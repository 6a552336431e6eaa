"""What the site is built from besides docs/: pages made of click and pydantic, links, and the check of them."""
