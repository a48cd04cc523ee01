"""What may stand where the cursor is, as far as the language tells; begin with ``places``."""
