def write(tools, families, folder, name):
    pass
