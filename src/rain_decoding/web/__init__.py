"""What our servers share: whom they listen to, limits of what is sent, keys, errors, pages and their style."""
