"""How families' own processors cut pictures: the module that `ModelSpec.pictures` names."""
