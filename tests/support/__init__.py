"""What the tests share. Nothing here is a test, and nothing here is part of the product."""
