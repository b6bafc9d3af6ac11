"""The HTTP side: what validates, checks a permission, calls one function of the rules, and answers."""
