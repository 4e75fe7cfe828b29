"""A run as one page with pictures: `facts` reads it, `pictures` draws it, `page` writes it."""
